"""What a signature, or its lack, means for a model's file."""

from enum import StrEnum

from ergonaut.errors import Refused


class SignaturePolicy(StrEnum):
    """What is wanted of a model's file. A signature that does not fit its file is refused under each of them."""

    OFF = "off"
    WARN = "warn"
    REQUIRE = "require"


def shortcoming(*, bundle: str, signed_by: str) -> str:
    """What is missing to trust a file; nothing where a trusted key signed it.

    >>> shortcoming(bundle="", signed_by="")
    'is not signed'
    """
    if not bundle:
        return "is not signed"
    return "" if signed_by else "is signed by a key that is not among the trusted ones"


def check_admitted(policy: SignaturePolicy, missing: str) -> None:
    """Raise Refused where the policy does not let a file with this shortcoming be served."""
    if missing and policy is SignaturePolicy.REQUIRE:
        raise Refused(
            f"the file {missing}, and signature_policy is require; sign it: ergonaut models sign", field="signature"
        )
