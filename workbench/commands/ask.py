"""`workbench ask`: one question about one image.

Does not know: how an answer is found; that is `wb.load_model(...).ask`.
"""

from __future__ import annotations

import argparse
import os

import workbench.commands._answers as answers
import workbench.commands._shared as shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench ask`."""
    parser.epilog = 'example: workbench ask chest.png "Is there a pleural effusion?"'
    parser.add_argument("image", metavar="IMAGE", help="a PNG, JPEG, TIFF or DICOM file")
    parser.add_argument("question", metavar="QUESTION", help="what to ask, in quotes")
    answers.add_image_arguments(parser)
    answers.add_decoding_arguments(parser)
    shared.add_model_arguments(parser)
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and print the answer."""
    from workbench.imaging.sources import check_path
    from workbench.model.prompt import question_messages

    if os.path.isfile(args.question) and not os.path.exists(args.image):
        args.parser.error("the image comes first, then the question")
    check_path(args.image)
    question_messages(args.question)
    decoding = answers.decoding_options(args)
    shared.loading(args)
    from workbench.imaging import load_radiograph

    image = load_radiograph(args.image, fit=args.fit, upright=args.upright)
    model = shared.open_model(args)
    answer = model.ask(image, args.question, **decoding)
    if args.json:
        shared.emit_json(
            {"image": args.image, "question": args.question} | answers.record(image, answer)
        )
    else:
        title = f"{args.image}: {args.question}"
        answers.show(image, answer, title=title, spoken=args.parser.spoken)
    return 0
