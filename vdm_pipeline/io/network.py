"""The way to a server, the same for every download: what the environment tells of proxies and of whom to trust.

`huggingface_hub` reads these variables by way of `httpx2`, our own downloads by way of `urllib`; left to themselves the two
disagree on ALL_PROXY and on the system's certificates.
"""

import os
import ssl
from urllib import request

from vdm_pipeline.errors import PipelineError


def check_way() -> None:
    """Raise `PipelineError` for variables that no download can work with."""
    proxies()
    trusted()


def proxies() -> dict[str, str]:
    """The proxy of each scheme: HTTP_PROXY and HTTPS_PROXY, and ALL_PROXY where one of them is not set; hosts of NO_PROXY have none.

    Raises `PipelineError` for a proxy that is spoken to in another way than HTTP, such as SOCKS.
    """
    told = request.getproxies()
    if "*" in told.get("no", "").split(","):
        return {}
    found = {scheme: proxy for scheme in ("http", "https") if (proxy := told.get(scheme) or told.get("all"))}
    for scheme, proxy in found.items():
        kind = proxy.split("://")[0].lower() if "://" in proxy else "http"
        if kind != "http":
            raise PipelineError(
                f"{scheme.upper()}_PROXY, or ALL_PROXY, names a proxy of the kind '{kind}', and only 'http' is spoken; "
                f"set {scheme.upper()}_PROXY to the http:// address of one, or NO_PROXY=* to use none."
            )
    return found


def trusted() -> ssl.SSLContext:
    """Whom to trust: the certificates of SSL_CERT_FILE or SSL_CERT_DIR, else the system's."""
    from httpx2 import create_ssl_context

    try:
        return create_ssl_context()
    except OSError as error:
        place = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or "the system"
        raise PipelineError(
            f"The certificates of {place} cannot be read ({error}); correct SSL_CERT_FILE, or unset it."
        ) from None
