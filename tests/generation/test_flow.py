"""Places that are filled again: every request gets what it gets alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.generation.kvcache import Decoding
from workbench.generation.responder import flow

shapes = st.tuples(
    st.integers(0, 2),  # image
    st.integers(0, 5),  # ids before it
    st.integers(1, 9),  # ids behind it
    st.integers(1, 13),  # limit on new tokens
)


def flowing(engine, requests, places):
    found = [{"tokens": [], "logprobs": [], "stopped": None} for _ in requests]
    for step in flow(engine, requests, places=places):
        assert len(step.rows) <= places
        for place, row in enumerate(step.rows):
            assert found[row]["stopped"] is None
            found[row]["tokens"].append(step.tokens[place])
            found[row]["logprobs"].append(step.logprobs[place])
            found[row]["stopped"] = step.stopped[place]
    return found


@settings(max_examples=15, deadline=None)
@given(st.lists(shapes, min_size=1, max_size=9), st.integers(1, 5))
def test_every_request_gets_what_it_gets_alone(lab, wanted, places):
    requests = [
        lab.request(image, head, tail, seed, max_new_tokens=limit)
        for seed, (image, head, tail, limit) in enumerate(wanted)
    ]
    for request, row in zip(requests, flowing(lab.engine(), requests, places), strict=True):
        alone = lab.collect(lab.engine(), [request])[0]
        assert row["tokens"] == alone.tokens
        assert row["stopped"] == alone.stopped
        np.testing.assert_allclose(row["logprobs"], alone.logprobs, atol=2e-5)


def test_sampled_requests_keep_their_own_random_numbers(lab):
    requests = [
        lab.request(words=at, temperature=1.2, seed=at, max_new_tokens=3 + 2 * at)
        for at in range(6)
    ]
    for request, row in zip(requests, flowing(lab.engine(), requests, 2), strict=True):
        assert row["tokens"] == lab.collect(lab.engine(), [request])[0].tokens


def test_requests_are_asked_for_when_places_are_free(lab):
    limits, asked = (2, 9, 9, 2, 2), []

    def requests():
        for at, limit in enumerate(limits):
            asked.append(at)
            yield lab.request(words=at, max_new_tokens=limit)

    steps = flow(lab.engine(end_ids=()), requests(), places=2)
    next(steps)
    assert asked == [0, 1]
    next(steps)
    assert next(steps).rows == (1, 2), "the third took the place of the first"
    assert {row for step in steps for row in step.rows} == {1, 2, 3, 4}


def test_no_requests_no_steps(lab):
    assert list(flow(lab.engine(), [], places=3)) == []


def test_gaps_in_front_do_not_grow(lab, monkeypatch):
    """The buffer is as long as its longest row when others have joined, however long it ran."""
    joined, join = [], Decoding.join
    monkeypatch.setattr(Decoding, "join", lambda *given: joined.append(join(*given)) or joined[-1])
    requests = [lab.request(words=at, max_new_tokens=4 + at % 3) for at in range(12)]
    flowing(lab.engine(end_ids=()), requests, 2)
    assert len(joined) > 3
    longest = max(len(request.ids) - 1 + 4 for request in requests) + 6
    assert all(len(part.keys[0]) for one in joined for part in one.buffer.layers)
    assert max(max(one.lengths) for one in joined) <= longest


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_many_answers_come_in_the_order_of_the_jobs(lab, name, responder, batch_size):
    from workbench.generation.options import DecodingSettings
    from workbench.model.prompt import question_messages

    questions = ["Is it?", "What do you see in this image, and where?", "Why?", "Where is it now?"]
    jobs = [
        responder.job(
            lab.recorded(name).pixels,
            question_messages(question),
            DecodingSettings(max_new_tokens=3 + 5 * (at % 2)),
            task="question",
            source="image",
        )
        for at, question in enumerate(questions)
    ]
    many = list(responder.answer_many(jobs, batch_size=batch_size))
    assert [one.prompt for one in many] == [job.prompt for job in jobs]
    for job, one in zip(jobs, many, strict=True):
        assert one.token_ids == responder.answer(job).token_ids
        assert one.seconds > 0
