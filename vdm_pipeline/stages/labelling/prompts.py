"""Find negations in prompts."""

import re
from collections.abc import Sequence

NEGATIONS = re.compile(
    r"\b(no|not|cannot|\w+n[’']t|without|never|none|nothing|neither|nor|absence of|absent|free of"
    r"|free from|\w+-free|negative for|lack(?:s|ing)?(?: of)?|rather than|ruled out|rules out"
    r"|excluding|excluded|denies)(?!\w)",
    re.IGNORECASE,
)


def find_negations(prompts: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Prompts with a negation, each with the negating word. CLIP-like models mostly ignore negations.

    Source: Alhamoud et al., "Vision-Language Models Do Not Understand Negation", 2025.
    """
    matches = [(prompt, NEGATIONS.search(prompt)) for group in prompts for prompt in group]
    return [(prompt, match[0]) for prompt, match in matches if match]
