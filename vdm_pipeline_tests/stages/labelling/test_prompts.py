"""Negations in prompts are found as words."""

from vdm_pipeline.stages.labelling.prompts import find_negations


def test_negations_are_found_as_words():
    prompts = [
        ["no evidence of pneumonia", "a normal chest"],
        ["nodules", "lungs without air", "Not healthy", "notable opacity"],
    ]
    assert [word.lower() for _, word in find_negations(prompts)] == ["no", "without", "not"]
