"""The context budget: how many new tokens fit behind a prompt that holds an image.

Ours (`limit_rule="context"`): prompt ids, image tokens and new tokens together must fit the
language model's own context (`llama.max_position_embeddings`); an image costs all its tokens, 1,024
at full size. The published code (`limit_rule="published"`) allows min(512, M - ids - 1) new tokens,
counts an image as one id and takes M from the top level of config.json, 2048 when it is not there.

Does not know: tokenizers, models; it adds numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from workbench.errors import ContextBudgetError
from workbench.generation.options import DEFAULT_NEW_TOKENS, DecodingSettings

#: M of the published rule where config.json has no top-level `max_position_embeddings`.
PUBLISHED_CONTEXT = 2048


@dataclass(frozen=True)
class ContextBudget:
    """What a model's context allows.

    Attributes:
        context: positions of the language model.
        image_tokens: positions that one image takes.
        published_context: M of the published rule.
    """

    context: int
    image_tokens: int
    published_context: int = PUBLISHED_CONTEXT

    def positions(self, ids: int, *, images: int = 1) -> int:
        """Return the positions of a prompt of `ids` ids, `images` of them placeholders."""
        return ids - images + images * self.image_tokens

    def published_limit(self, ids: int) -> int:
        """Return the published rule's limit on new tokens; it may be 0 or less."""
        return min(DEFAULT_NEW_TOKENS, self.published_context - ids - 1)

    def resolve(self, settings: DecodingSettings, ids: int, *, images: int = 1) -> DecodingSettings:
        """Fix the number of new tokens for a prompt.

        Args:
            settings: what was asked for; `max_new_tokens` None lets the context decide.
            ids: ids of the prompt, an image counted as one.
            images: placeholders among them.

        Returns:
            The settings with the number of new tokens that will be used.

        Raises:
            ContextBudgetError: the prompt does not fit, or leaves less than was asked for.
        """
        used = self.positions(ids, images=images)
        room = self.context - used
        if settings.limit_rule == "published":
            wanted = self.published_limit(ids)
            if wanted < 1:
                raise ContextBudgetError(
                    f"the published rule leaves {wanted} new tokens: {self.published_context} - "
                    f"{ids} prompt ids - 1; shorten the question or the dialogue by "
                    f"{1 - wanted} tokens, or use limit_rule='context'"
                )
            wanted = min(wanted, settings.max_new_tokens or wanted)
        else:
            wanted = settings.max_new_tokens or max(1, min(DEFAULT_NEW_TOKENS, room))
        if wanted > room:
            raise ContextBudgetError(self._too_long(ids, images, wanted, room))
        return replace(settings, max_new_tokens=wanted)

    def _too_long(self, ids: int, images: int, wanted: int, room: int) -> str:
        text, image = ids - images, images * self.image_tokens
        message = (
            f"{text} prompt tokens + {image} image tokens + {wanted} new tokens = "
            f"{text + image + wanted}, but the model's context is "
            f"{self.context}: {wanted - room} too many; "
        )
        if room >= 1:
            return message + f"ask for max_new_tokens={room} or less, or shorten the dialogue"
        return message + (
            f"shorten the question, or start a new chat, so that the text is {1 - room} tokens "
            "shorter"
        )
