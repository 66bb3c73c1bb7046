"""Proxies and certificates of the environment."""

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.network import check_network_settings, proxies

ALL, HTTP, HTTPS = "http://all:1", "http://plain:2", "http://secure:3"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {}),
        ({"ALL_PROXY": ALL}, {"http": ALL, "https": ALL}),
        ({"ALL_PROXY": ALL, "HTTPS_PROXY": HTTPS}, {"http": ALL, "https": HTTPS}),
        ({"http_proxy": HTTP}, {"http": HTTP}),
        ({"HTTPS_PROXY": "secure:3"}, {"https": "secure:3"}),
        ({"ALL_PROXY": ALL, "NO_PROXY": "127.0.0.1"}, {"http": ALL, "https": ALL}),
        ({"ALL_PROXY": "socks5://x:1", "NO_PROXY": "*"}, {}),
    ],
)
def test_all_proxy_is_used_where_no_other_is_set(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxies() == expected


@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
@pytest.mark.parametrize("protocol", ["socks5", "socks5h", "https"])
def test_error_of_another_proxy_type_does_not_show_its_password(monkeypatch, name, protocol):
    monkeypatch.setenv(name, f"{protocol}://me:secret@there:1080")
    with pytest.raises(PipelineError, match=rf"ALL_PROXY .*'{protocol}'.*set \w+_PROXY to") as caught:
        check_network_settings()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_unreadable_certificates(monkeypatch, tmp_path, content):
    if content:
        (tmp_path / "own.pem").write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    with pytest.raises(PipelineError, match=r"own\.pem cannot be read \(.+\); correct SSL_CERT_FILE"):
        check_network_settings()
