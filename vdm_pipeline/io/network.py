"""Proxies and certificates from the environment, the same for every download.

`huggingface_hub` reads them through `httpx2`, and our own downloads use `urllib`. By default the two treat
ALL_PROXY and the system's certificates differently.
"""

import os
import ssl
from urllib import request

from vdm_pipeline.errors import PipelineError


def check_network_settings() -> None:
    """Raise `PipelineError` if the proxy or certificate variables cannot work for any download."""
    proxies()
    ssl_context()


def proxies() -> dict[str, str]:
    """Proxy by scheme: HTTP_PROXY and HTTPS_PROXY, and ALL_PROXY where one of them is not set.

    Hosts of NO_PROXY use none. Raises `PipelineError` for a proxy that is not an HTTP proxy, such as SOCKS.
    """
    variables = request.getproxies()
    if "*" in variables.get("no", "").split(","):
        return {}
    by_scheme = {}
    for scheme in ("http", "https"):
        proxy = variables.get(scheme) or variables.get("all")
        if proxy:
            _check_is_http(scheme, proxy)
            by_scheme[scheme] = proxy
    return by_scheme


def _check_is_http(scheme: str, proxy: str) -> None:
    protocol = proxy.split("://")[0].lower() if "://" in proxy else "http"
    if protocol != "http":
        name = f"{scheme.upper()}_PROXY"
        raise PipelineError(
            f"{name} or ALL_PROXY is a proxy of type '{protocol}', and only 'http' is supported; "
            f"set {name} to an http:// address, or set NO_PROXY=* to use no proxy."
        )


def ssl_context() -> ssl.SSLContext:
    """The trusted certificates: those of SSL_CERT_FILE or SSL_CERT_DIR, or else the system's."""
    from httpx2 import create_ssl_context

    try:
        return create_ssl_context()
    except OSError as error:
        source = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or "the system"
        raise PipelineError(
            f"The certificates of {source} cannot be read ({error}); correct SSL_CERT_FILE, or unset it."
        ) from None
