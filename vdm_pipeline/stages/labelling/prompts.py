"""What is known to go wrong in prompts."""

import re
from collections.abc import Sequence

NEGATIONS = re.compile(
    r"\b(no|not|cannot|\w+n[’']t|without|never|none|nothing|neither|nor|absence of|absent|free of|free from|\w+-free|negative for"
    r"|lack(?:s|ing)?(?: of)?|rather than|ruled out|rules out|excluding|excluded|denies)(?!\w)",
    re.IGNORECASE,
)


def negations(prompts: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Pairs of a prompt that denies something and the word that does: contrastive models mostly see what is denied.

    Source: Alhamoud et al., "Vision-Language Models Do Not Understand Negation", 2025.
    """
    return [
        (prompt, found[0]) for group in prompts for prompt in group if (found := NEGATIONS.search(prompt))
    ]
