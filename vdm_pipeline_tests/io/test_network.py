"""Proxies and certificates: what the environment says counts for every download alike."""

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.network import check_way, proxies

ALL, HTTP, HTTPS = "http://all:1", "http://plain:2", "http://sure:3"


@pytest.fixture(autouse=True)
def none_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, {}),
        ({"ALL_PROXY": ALL}, {"http": ALL, "https": ALL}),
        ({"ALL_PROXY": ALL, "HTTPS_PROXY": HTTPS}, {"http": ALL, "https": HTTPS}),
        ({"http_proxy": HTTP}, {"http": HTTP}),
        ({"HTTPS_PROXY": "sure:3"}, {"https": "sure:3"}),
        ({"ALL_PROXY": ALL, "NO_PROXY": "127.0.0.1"}, {"http": ALL, "https": ALL}),
        ({"ALL_PROXY": "socks5://x:1", "NO_PROXY": "*"}, {}),
    ],
)
def test_all_proxy_is_for_what_the_others_leave_out(monkeypatch, told, expected):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert proxies() == expected


@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
@pytest.mark.parametrize("kind", ["socks5", "socks5h", "https"])
def test_a_proxy_that_speaks_no_http_is_told_without_its_password(monkeypatch, name, kind):
    monkeypatch.setenv(name, f"{kind}://me:secret@there:1080")
    with pytest.raises(
        PipelineError,
        match=rf"names a proxy of the kind '{kind}', and only 'http' is spoken; set \w+_PROXY to",
    ) as caught:
        check_way()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_told(monkeypatch, tmp_path, content):
    if content:
        (tmp_path / "own.pem").write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    with pytest.raises(
        PipelineError,
        match=r"The certificates of .*own\.pem cannot be read \(.+\); correct SSL_CERT_FILE, or unset it\.",
    ):
        check_way()
