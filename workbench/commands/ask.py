"""`workbench ask`: one question about one image."""

from __future__ import annotations

import argparse
import os

import workbench.commands._shared as shared
import workbench.commands.report as answers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = 'example: workbench ask chest.png "Is there a pleural effusion?"'
    shared.option(parser, "image IMAGE", "a PNG, JPEG, TIFF or DICOM file")
    shared.option(parser, "question QUESTION", "what to ask, in quotes")
    answers.add_image_arguments(parser)
    answers.add_decoding_arguments(parser)
    shared.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from workbench.imaging import load_radiograph
    from workbench.imaging.sources import check_path
    from workbench.model.prompt import question_messages

    if os.path.isfile(args.question) and not os.path.exists(args.image):
        args.parser.error("the image comes first, then the question")
    check_path(args.image)
    question_messages(args.question)
    decoding = answers.decoding_options(args)
    shared.loading(args)
    image = load_radiograph(args.image, fit=args.fit, upright=args.upright)
    model = shared.open_model(args)
    found, contract = model.ask(image, args.question, **decoding), model.contract(image)
    asked = {"image": args.image, "question": args.question}
    title = f"{args.image}: {args.question}"
    shown = answers.lines(contract, found, title=title, spoken=args.parser.spoken)
    return shared.answer(args, asked | answers.record(contract, found), shown)
