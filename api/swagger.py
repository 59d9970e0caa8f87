"""`/docs`: Swagger UI over `/openapi.json`, from files of this package alone.

They are in `static/swagger-ui`, as `make vendor` brought them. No other host is asked for anything, and the page's
Content-Security-Policy sees to it.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response

FOLDER = Path(__file__).parent / "static" / "swagger-ui"
VERSION = (FOLDER / "package.txt").read_text().split()[0].rpartition("@")[2]
ASSETS = f"/docs/swagger-ui-{VERSION}"

_SERVED = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_START = """
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null
})
"""
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Flexmesh</title>
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
<link rel="icon" type="image/png" href="{ASSETS}/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script>
<script>{_START}</script>
</body>
</html>
"""
_START_HASH = base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()
_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src 'self' 'sha256-{_START_HASH}'",
        "style-src 'self'",
        "img-src 'self' data:",  # icons of its style sheet
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
# The version is in the address, so what is there never changes.
_FOR_EVER = "public, max-age=31536000, immutable"


def serve_swagger(app: FastAPI) -> None:
    """Add the page and its assets to `app`."""

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _SERVED:
            raise HTTPException(404)
        return FileResponse(FOLDER / name, media_type=_SERVED[name], headers={"Cache-Control": _FOR_EVER})

    app.add_route("/docs", page, include_in_schema=False)
    app.add_route(f"{ASSETS}/{{name}}", asset, include_in_schema=False)
