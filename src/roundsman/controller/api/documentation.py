"""`/api/openapi.json`, and `/api/docs`: a page to read and try it, served without the internet."""

from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from litestar import MediaType, Request, Response, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIType,
    Schema,
    SecurityScheme,
    Tag,
)
from litestar.plugins import OpenAPISchemaPlugin
from litestar.static_files import create_static_files_router
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition
from litestar.typing import FieldDefinition

from roundsman import __version__
from roundsman.controller.api.document import finished_document
from roundsman.secret import Secret

ASSETS: Final = "/api/docs/assets"
# Of the distribution swagger-ui-py only the files are used: importing it would load the adapters
# of a dozen web frameworks.
_FOLDER: Final = Path(str(distribution("swagger-ui-py").locate_file("swagger_ui/static")))

_DESCRIPTION: Final = """\
Three surfaces on one port: the **worker API** (`/worker/…`) and the **fleet API** (`/start`,
`/stop`, `/query`), two published contracts that other clients speak too, and what is Roundsman's
own under `/api/v1`.

A caller shows a token, as a bearer token or as the password of HTTP basic authentication. What it
may do is its role's: a `reader` reads, an `administrator` does everything, a `worker` enrols,
leases and completes. Where no token is configured the controller is open, and serves loopback
alone.

Instants are Unix seconds, UTC. Every error has the body `{"error": "…", "code": "…"}`: the text
is for people, the code is stable. Lists come in pages: pass `next` of one as `after` to get the
following one.
"""
_TAGS: Final = {
    "worker": "The worker API: executions are leased, results come back.",
    "fleet": "The fleet API: commands on a named worker.",
    "controller": "The controller itself.",
    "workers": "Who runs things, and whether they live.",
    "inventory": "Devices and jobs, as they are configured. Never a secret.",
    "slots": "What is due when, and who holds it.",
    "runs": "What became of executions.",
    "results": "What the archive keeps.",
    "operations": "What a person asks for beside the schedule.",
    "processes": "Commands that were started on workers, and what they wrote.",
    "audit": "Who did what, from where, and what became of it.",
    "health": "For supervisors and load balancers; no credential is needed.",
}

_PAGE: Final = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Roundsman API</title>
<link rel="icon" type="image/png" href="{ASSETS}/favicon-32x32.png">
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script>
<script src="/api/docs/page.js"></script>
</body>
</html>
"""
# A file of its own, so that the page's policy need not allow scripts in the page.
_SCRIPT: Final = """\
SwaggerUIBundle({
  url: "/api/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  presets: [SwaggerUIBundle.presets.apis],
});
"""
# Nothing from elsewhere, and nobody may frame it. The page's library draws its icons as data.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NOSNIFF: Final = {"X-Content-Type-Options": "nosniff"}


class DocumentPlugin(OpenAPIRenderPlugin):
    """Answers the finished document."""

    def __init__(self) -> None:
        """Serve it at `/api/openapi.json`."""
        super().__init__(path="/openapi.json", media_type=MediaType.JSON)
        self._finished = b""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document; finished once."""
        self._finished = self._finished or finished_document(request.app)
        return self._finished

    def receive_router(self, router: Router) -> None:
        """Keep the document alone: other paths below `/api` are answered as everywhere."""
        router.routes[:] = [route for route in router.routes if route.path.endswith(".json")]


class SecretsAsText(OpenAPISchemaPlugin):
    """Where a secret does travel, to whom it is meant for, it is a text."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Whether it is a secret."""
        return value is Secret

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """A text."""
        return Schema(type=OpenAPIType.STRING)


def operation_id(
    handler: HTTPRouteHandler, _: Method, __: list[str | PathParameterDefinition]
) -> str:
    """Operations are named after their handlers."""
    return handler.handler_name


def config() -> OpenAPIConfig:
    """What the document says of itself; made anew for each application, as it keeps state."""
    return OpenAPIConfig(
        title="Roundsman",
        version=__version__,
        description=_DESCRIPTION,
        path="/api",
        tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
        use_handler_docstrings=True,
        operation_id_creator=operation_id,
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
        render_plugins=[DocumentPlugin()],
    )


@get("/api/docs", include_in_schema=False)
async def get_page() -> Response[str]:
    """The page."""
    headers = {**_NOSNIFF, "Content-Security-Policy": _POLICY}
    return Response(_PAGE, media_type=MediaType.HTML, headers=headers)


@get("/api/docs/page.js", include_in_schema=False)
async def get_script() -> Response[str]:
    """What fills the page."""
    return Response(_SCRIPT, media_type="text/javascript", headers=_NOSNIFF)


ROUTES: Final = Router(
    "/",
    route_handlers=[
        get_page,
        get_script,
        create_static_files_router(
            path=ASSETS, directories=[_FOLDER], include_in_schema=False, name="documentation"
        ),
    ],
)
