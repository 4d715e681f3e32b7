"""Whether an answer continues what came of a file before."""

import pytest
import requests

from roads.sources.partial import Origin

RANGE = {"Content-Range": "bytes 4-9/10"}


@pytest.mark.parametrize(
    ("headers", "continues"),
    [
        ({"ETag": '"x"', **RANGE}, True),
        ({"ETag": '"y"', **RANGE}, False),
        ({"ETag": 'W/"x"', **RANGE}, False),
        (RANGE, False),  # says of no version that it is of it
        ({"ETag": '"x"', "Content-Range": "bytes 5-9/10"}, False),
        ({"ETag": '"x"', "Content-Range": "bytes 4-10/11"}, False),
    ],
)
def test_only_parts_of_the_same_version_are_joined(
    headers: dict[str, str], continues: bool
) -> None:
    answer = requests.Response()
    answer.headers.update(headers)
    assert Origin(10, '"x"').continues(answer, 4) == continues
    assert not Origin(10, "").continues(answer, 4)
