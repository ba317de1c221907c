"""The description of the interface for programs, in OpenAPI 3.1."""

from typing import Any

from tinygrad_mask import __version__
from tinygrad_mask.masks.detector.inference.results import ANSWERS
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.serving.limits import ServerLimits

_PICTURES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp")
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_REFUSED = {
    400: "The multipart body cannot be understood, or has no file",
    401: "The token is missing or wrong",
    403: "The request is from another page (`Origin`)",
    408: "The body was not complete in time",
    413: "The picture has too many bytes or pixels",
    415: "The content is no picture of a known format, truncated or corrupt",
    421: "The name in `Host` is not one of this server",
    429: "Too many requests at a time from this address",
    503: "Too many requests at a time; try again in a second",
}


def describe(limits: ServerLimits, *, token: bool) -> dict[str, Any]:
    """Return the OpenAPI document of a server with these limits, and with a token or without."""
    picture: dict[str, Any] = {"schema": {}}
    form = {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "contentMediaType": "image/*"}},
        }
    }
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "tinygrad_mask",
            "version": __version__,
            "description": "Finds the faces in a photograph and says how each one's mask is worn. "
            "No picture is stored, logged or sent on.",
        },
        "paths": {
            "/api/detect": {
                "post": {
                    "summary": "Find the faces in a photograph",
                    "description": f"At most {limits.upload_bytes:,} bytes and "
                    f"{limits.upload_pixels:,} pixels.",
                    "operationId": "detect",
                    "requestBody": {
                        "required": True,
                        "content": {
                            **dict.fromkeys(_PICTURES, picture),
                            "multipart/form-data": form,
                        },
                    },
                    "responses": {
                        "200": _answer("The faces, most certain first", "Faces"),
                        **{
                            str(status): _answer(what, "Error")
                            for status, what in _REFUSED.items()
                            if token or status != 401
                        },
                    },
                }
            },
            "/healthz": {"get": _text("Whether the server answers", "`ok`")},
            "/metrics": {"get": _text("Counters and latencies", "Prometheus' text format")},
        },
        "components": {"schemas": {"Faces": _FACES, "Face": _FACE, "Error": _ERROR}},
    }
    if token:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path in ("/api/detect", "/metrics"):
            for operation in described["paths"][path].values():
                operation["security"] = [{"token": []}]
    return described


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "One line"}},
}
_FACE = {
    "type": "object",
    "required": ["box", "score", "label", "probability", "probabilities", "answer"],
    "properties": {
        "box": {
            "description": "x1, y1, x2, y2 in pixels of the photograph",
            "type": "array",
            "items": {"type": "number"},
            "minItems": 4,
            "maxItems": 4,
        },
        "score": {**_SHARE, "description": "The probability that there is a face"},
        "label": {"enum": list(LABELS), "description": "The most probable label"},
        "probability": {**_SHARE, "description": "The probability of the label"},
        "probabilities": {
            "type": "object",
            "required": list(LABELS),
            "properties": dict.fromkeys(LABELS, _SHARE),
        },
        "answer": {
            "enum": list(ANSWERS),
            "description": "The label, or that it is not sure, or that the face is too small",
        },
    },
}
_FACES = {
    "type": "object",
    "required": ["width", "height", "faces", "milliseconds"],
    "properties": {
        "width": {"type": "integer", "description": "Pixels of the upright photograph"},
        "height": {"type": "integer"},
        "faces": {"type": "array", "items": {"$ref": "#/components/schemas/Face"}},
        "milliseconds": {"type": "number", "description": "The time that the model took"},
    },
}


def _answer(what: str, schema: str) -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"description": what, "content": {"application/json": content}}


def _text(summary: str, what: str) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {"summary": summary, "responses": {"200": {"description": what, "content": content}}}
