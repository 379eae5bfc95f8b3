"""What a failed request to a store means: whether to try again, and what to tell."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from filebroker.ground.errors import AccessDenied, MissingStore, StorageError, StoreUnreachable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Codes of S3 and names of exceptions (of botocore, aiohttp and Python), by what they mean.  Names, so that
#: nothing has to be imported to look at a failure.
_DENIED = _words(
    """AccessDenied AccountProblem AllAccessDisabled AuthorizationHeaderMalformed ExpiredToken ExpiredTokenException
    Forbidden InvalidAccessKeyId InvalidSecurity InvalidToken NotSignedUp RequestTimeTooSkewed SignatureDoesNotMatch
    TokenRefreshRequired UnrecognizedClientException 401 403 407
    CredentialRetrievalError NoAuthTokenError NoCredentialsError PartialCredentialsError PermissionError
    ProfileNotFound TokenRetrievalError UnauthorizedSSOTokenError SSOError"""
)
_MISSING_STORE = frozenset({"NoSuchBucket"})
_EXISTS = frozenset({"PreconditionFailed", "412", "FileExistsError", "ResourceExistsError"})
_BEYOND_END = frozenset({"InvalidRange", "416"})
_TRANSIENT = _words(
    """BadDigest ConditionalRequestConflict IncompleteBody InternalError InternalFailure OperationAborted
    RequestLimitExceeded RequestTimeout RequestTimeoutException ServiceUnavailable SlowDown Throttling
    ThrottlingException TooManyRequests XAmzContentSHA256Mismatch 408 409 429 500 502 503 504
    ClientConnectionError ClientPayloadError ConnectionError FlexibleChecksumError HTTPClientError IncompleteRead
    IncompleteReadError InterruptedError ResponseParserError ResponseStreamingError ServerTimeoutError
    TimeoutError"""
)
#: No connection can be made at all: trying for long is of no use.
_UNCONNECTED = _words(
    """ClientConnectorError ConnectTimeoutError ConnectionRefusedError ConnectionTimeoutError EndpointConnectionError
    ProxyConnectionError gaierror"""
)
_UNCONNECTED_NUMBERS = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
_UNVERIFIED = frozenset({"SSLCertVerificationError", "ClientConnectorCertificateError"})
_DEEPEST = 10


@dataclass(frozen=True)
class Failure:
    """What one failed try of a request means.

    Attributes
    ----------
    kind : type
        The exception that tells it.
    reason : str
        What was answered, or what happened.
    is_transient : bool
        Whether trying again may help.
    is_unconnected : bool
        Whether no connection was made at all.
    """

    kind: type[Exception]
    reason: str
    is_transient: bool = False
    is_unconnected: bool = False


def classify(error: BaseException) -> Failure:
    """Tell what a failure means, whichever library raised it."""
    marks = _marks(error)
    reason = _reason(error)
    if marks & _MISSING_STORE:
        return Failure(MissingStore, reason)
    if marks & _DENIED:
        return Failure(AccessDenied, _skew(error) or reason)
    if marks & _UNVERIFIED:
        return Failure(StoreUnreachable, reason)
    if marks & _UNCONNECTED or _numbers(error) & _UNCONNECTED_NUMBERS:
        return Failure(StoreUnreachable, reason, is_transient=True, is_unconnected=True)
    if marks & _TRANSIENT:
        return Failure(StoreUnreachable, reason, is_transient=True)
    if is_absent(error):
        return Failure(FileNotFoundError, reason)
    return Failure(StorageError, reason)


def is_absent(error: BaseException) -> bool:
    """Tell whether a failure says that there is no such file."""
    marks = _marks(error)
    return not marks & _MISSING_STORE and bool(
        marks & {"FileNotFoundError", "IsADirectoryError", "NotADirectoryError", "NoSuchKey", "404", "410"}
    )


def is_existing(error: BaseException) -> bool:
    """Tell whether a failure says that there is a file already, and none was created."""
    return bool(_marks(error) & _EXISTS)


def is_beyond_end(error: BaseException) -> bool:
    """Tell whether a failure says that a file has no bytes from there on."""
    return bool(_marks(error) & _BEYOND_END)


def is_unsupported(error: BaseException) -> bool:
    """Tell whether a failure says that the server does not know such a request."""
    return bool(_marks(error) & {"NotImplemented", "NotImplementedError", "MethodNotAllowed", "405", "501"})


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give a failure, what caused it, what caused that, and so on."""
    for _ in range(_DEEPEST):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _answer(error: BaseException) -> dict[str, Any]:
    """Give what an S3 server answered with a failure, nothing for other failures."""
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) and isinstance(response.get("Error"), dict) else {}


def _marks(error: BaseException) -> set[str]:
    """Collect the codes and the names of all that a failure consists of."""
    marks = set()
    for link in chain(error):
        answer = _answer(link)
        if answer:
            marks.add(str(answer["Error"].get("Code")))
            marks.add(str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode")))
        else:
            marks.update(base.__name__ for base in type(link).__mro__)
            marks.add(str(getattr(link, "status", None)))
    return marks


def _numbers(error: BaseException) -> set[int | None]:
    return {getattr(link, "errno", None) for link in chain(error)}


def _reason(error: BaseException) -> str:
    """Give the most telling words of a failure: those of the server, or of the outermost exception."""
    for link in chain(error):
        if answer := _answer(link):
            code, text = answer["Error"].get("Code"), answer["Error"].get("Message")
            return f"{code}: {text}" if text and text != code else str(code)
    strerror = getattr(error, "strerror", None)
    text = str(strerror or error)
    return text if len(text.split()) > 2 else f"{type(error).__name__}: {text}" if text else type(error).__name__


def _skew(error: BaseException) -> str | None:
    """Tell of a clock that is too far off for a signature."""
    for link in chain(error):
        answer = _answer(link)
        if answer and answer["Error"].get("Code") == "RequestTimeTooSkewed":
            text = "RequestTimeTooSkewed: the clock of this machine is off"
            server = _time(answer["Error"].get("ServerTime"))
            if server is None:
                return text
            minutes = (datetime.now(UTC) - server).total_seconds() / 60
            return f"{text}, by about {abs(minutes):.0f} minutes {'ahead' if minutes > 0 else 'behind'}: " + (
                f"the server's says {server:%Y-%m-%d %H:%M:%S} UTC"
            )
    return None


def _time(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def explain(failure: Failure, url: str, deed: str, tries: int, deadline: float) -> Exception:
    """Make the exception that tells why a request to a store failed.

    Parameters
    ----------
    failure
        What its last try met with.
    url
        The store.
    deed
        What was to be done, as in ``reading 'filebroker.json'``.
    tries
        How often it was tried.
    deadline
        How long it might take, in seconds.
    """
    if failure.kind is FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, f"no such file in {url}, when {deed}")
    if failure.kind is MissingStore:
        return MissingStore(
            f"{url} does not exist: {failure.reason} (when {deed}); check the bucket's name, "
            f"and endpoint_url in storage_options"
        )
    if failure.kind is AccessDenied:
        return AccessDenied(f"{url} denies {deed}: {failure.reason}; {_advice(url, failure.reason)}")
    if failure.kind is StoreUnreachable:
        return StoreUnreachable(
            f"{url} gave no answer to {deed} ({tries} tries, within a deadline of {deadline:g} s); the last one ended "
            f"with: {failure.reason}; check the network and the address, or allow for more seconds with "
            f"FILEBROKER_TIMEOUT"
        )
    return StorageError(f"{url} failed at {deed}: {failure.reason}")


def _advice(url: str, reason: str) -> str:
    """Tell what to do about a denial."""
    if "RequestTimeTooSkewed" in reason:
        return "set the clock"
    if url.rpartition("::")[2].startswith("s3"):
        return (
            "check who you are there: {'profile': 'NAME'} in storage_options, or the environment variables "
            "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; and what that one may do"
        )
    return "check the credentials in storage_options, and what they allow"
