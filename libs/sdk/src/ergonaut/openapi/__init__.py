"""OpenAPI documents of served models, typed by what they take and give. The gateway answers with them, and `ergonaut create
--export` writes them beside a model; both by the same functions."""

from ergonaut.openapi.documents import Described, bearer, model_document, refusals
from ergonaut.openapi.forms import CLASSES, FEATURES, Field, Form, form_of

__all__ = ["CLASSES", "FEATURES", "Described", "Field", "Form", "bearer", "form_of", "model_document", "refusals"]
