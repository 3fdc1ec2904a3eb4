"""`/api/openapi.json`, and `/api/docs`: a page to read and try it, served without the internet."""

from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from litestar import Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.static_files import create_static_files_router

from roundsman import __version__

ASSETS: Final = "/api/docs/assets"
# Of the distribution swagger-ui-py only the files are used: importing it would load the adapters
# of a dozen web frameworks.
_FOLDER: Final = Path(str(distribution("swagger-ui-py").locate_file("swagger_ui/static")))

OPENAPI: Final = OpenAPIConfig(
    title="Roundsman",
    version=__version__,
    description="The worker API, the fleet API, and what is Roundsman's own under `/api/v1`.",
    path="/api",
    components=Components(
        security_schemes={
            "token": SecurityScheme(type="http", scheme="bearer"),
            "basic": SecurityScheme(
                type="http", scheme="basic", description="The token's name, and the token."
            ),
        }
    ),
    # Either will do; an open controller asks for none.
    security=[{"token": []}, {"basic": []}, {}],
    render_plugins=[
        SwaggerRenderPlugin(
            path="/docs",
            js_url=f"{ASSETS}/swagger-ui-bundle.js",
            css_url=f"{ASSETS}/swagger-ui.css",
            standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
            favicon=f'<link rel="icon" type="image/png" href="{ASSETS}/favicon-32x32.png">',
        ),
        JsonRenderPlugin(path="/openapi.json"),
    ],
)

ROUTES: Final[Router] = create_static_files_router(
    path=ASSETS, directories=[_FOLDER], include_in_schema=False, name="documentation"
)
