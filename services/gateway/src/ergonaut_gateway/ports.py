"""What the gateway needs of the world: records of models, their files, something that runs them, somebody to tell."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ergonaut.events import Event
from ergonaut.gateways import GatewayAnnounced
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.demand import History, Report
from ergonaut_gateway.domain.endpoints.figures import EndpointFigures, FiguresEntry
from ergonaut_gateway.domain.endpoints.records import EndpointEntry, EndpointRecord
from ergonaut_gateway.domain.files import FileEntry, KeptFile
from ergonaut_gateway.domain.inference import InferenceAnswer
from ergonaut_gateway.domain.models import Entry, Model, ModelRecord, Signature
from ergonaut_gateway.domain.peers import Errand
from ergonaut_gateway.domain.pipelines.recipes import Recipe
from ergonaut_gateway.domain.pipelines.records import PipelineEntry, PipelineRecord
from ergonaut_gateway.domain.tensors import Tensor

Record_contra = TypeVar("Record_contra", contravariant=True)
Entry_co = TypeVar("Entry_co", covariant=True)


class Records(Protocol[Record_contra, Entry_co]):
    """Keeps one record of each thing of a kind, and is the truth about it. Raises Unavailable while it is away."""

    async def get(self, tenant: str, name: str) -> Entry_co | None:
        """The record of a name, or None where there never was one."""
        ...

    async def put(self, record: Record_contra, /, *, revision: int) -> Entry_co:
        """Replace the record of this revision; 0 means that there is none yet. Raises Conflict where another came first."""
        ...

    async def entries(self) -> Sequence[Entry_co]:
        """All records of all tenants."""
        ...

    def changes(self, *, seconds: float) -> AsyncIterator[Entry_co]:
        """All records and then each change, for about so long; callers ask again, which makes good whatever was missed."""
        ...


class ModelRegistry(Records[Model, Entry], Protocol):
    """One record a model, with its versions: the truth of what is served."""


class FileNotes(Protocol):
    """Keeps who holds which file. Raises Unavailable while it cannot be reached."""

    async def get(self, tenant: str, digest: str) -> FileEntry | None:
        """The note of a content, or None where there is none."""
        ...

    async def put(self, kept: KeptFile, *, revision: int) -> FileEntry:
        """Replace the note of this revision; 0 means that there is none yet. Raises Conflict where another came first."""
        ...

    async def drop(self, entry: FileEntry) -> None:
        """Keep exactly this note no longer. Raises Conflict where it was changed."""
        ...

    async def entries(self) -> Sequence[FileEntry]:
        """All notes of all tenants."""
        ...


class ModelFiles(Protocol):
    """Keeps the files of models; a name means one content for ever. Raises Unavailable while it cannot be reached."""

    async def store(self, tenant: str, file: str, source: Path) -> None:
        """Keep a file. Raises Refused where there is no room."""
        ...

    async def exists(self, tenant: str, file: str) -> bool:
        """Whether the file is kept."""
        ...

    async def fetch(self, tenant: str, file: str, target: Path) -> None:
        """Write a kept file to a path. Raises NotFound, or Broken where it was damaged."""
        ...

    async def delete(self, tenant: str, file: str) -> None:
        """Keep a file no longer; one that is not there is fine."""
        ...


class Stop(Protocol):
    """Ends a run from without."""

    terminate: bool
    """Once this is true the run raises Unavailable soon."""


class Runner(Protocol):
    """Runs one loaded model, also in several threads at once. What runs where and together is for `service.batching`."""

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        ...

    @property
    def traits(self) -> Traits:
        """What was found out about it."""
        ...

    def crew_seconds(self) -> float | None:
        """CPU time of the threads that it has of its own beside those that call it, since it was loaded; None where it has none,
        or where that is not known."""
        ...

    def stop(self) -> Stop:
        """Something that can end one run."""
        ...

    def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
        """Compute outputs of inputs that fit the signature, in this thread. Raises Refused where the model cannot."""
        ...


class ModelLoader(Protocol):
    """Makes runners of model files."""

    async def load(self, path: Path) -> Runner:
        """Load a file. Raises Refused where it is no model that can be served."""
        ...


class Fuser(Protocol):
    """Makes one model file of several."""

    async def fuse(
        self, recipe: Recipe, files: Mapping[tuple[str, str], Path], target: Path, *, rows_alike: bool
    ) -> None:
        """Write the model of a recipe. `files` are its stages' by model and version; `rows_alike` says that the first axis of
        all its inputs and outputs is that of the rows. Raises Refused, with why that cannot be."""
        ...


class PipelineBook(Records[PipelineRecord, PipelineEntry], Protocol):
    """One record a pipeline: the truth of what it is."""


class EndpointBook(Records[EndpointRecord, EndpointEntry], Protocol):
    """One record an endpoint: the truth of where its requests go."""


class FiguresBook(Protocol):
    """Keeps what each process counted of endpoints, so that all of it can be summed. Raises Unavailable."""

    async def tell(self, tenant: str, name: str, figures: EndpointFigures) -> None:
        """Keep a process's figures in place of those it told before."""
        ...

    async def told(self, tenant: str, name: str) -> Sequence[EndpointFigures]:
        """What the processes told of an endpoint."""
        ...

    async def forget(self, tenant: str, name: str, process: str) -> None:
        """Keep a process's figures no longer."""
        ...

    async def entries(self) -> Sequence[FiguresEntry]:
        """All that was told, of all endpoints."""
        ...

    async def put(self, tenant: str, name: str, figures: EndpointFigures, /, *, revision: int) -> None:
        """Replace the figures of this revision, as several write the sum of processes that are gone; 0 means that there are none
        yet. Raises Conflict where another came first."""
        ...


class SignatureChecker(Protocol):
    """Knows the keys that are trusted."""

    def check(self, bundle: str, digest: str) -> str:
        """The id of the trusted key that signed this file, or nothing where none of them did. Raises Refused for a forgery."""
        ...


class ModelSigner(Protocol):
    """Has a key that is trusted."""

    def sign(self, path: Path) -> str:
        """The signature of a file, as a bundle. Raises Refused where the key is gone."""
        ...


class Announcer(Protocol):
    """Tells the other services facts."""

    async def publish(self, event: Event) -> None:
        """Tell a fact; telling it again is harmless. Raises Unavailable."""
        ...


class References(Protocol):
    """Keeps what each version's inputs and outputs looked like at first, so that all processes compare with the same, also
    after a start. Raises Unavailable while it cannot be reached."""

    async def get(self, record: ModelRecord, side: str) -> bytes | None:
        """The kept sketch of the `inputs` or `outputs`; None where there is none yet."""
        ...

    async def keep(self, record: ModelRecord, side: str, sketch: bytes) -> bytes:
        """Keep a sketch unless there is one; the one that is kept now."""
        ...


class DemandBook(Protocol):
    """Keeps what each gateway's process tells of the cores that it uses, and what was learned of that. Raises Unavailable."""

    async def tell(self, report: Report) -> None:
        """Keep a gateway's newest report in place of the one before."""
        ...

    async def reports(self, *, since: datetime) -> Sequence[Report]:
        """The newest report of each gateway that told since; older ones are forgotten."""
        ...

    async def history(self) -> tuple[History, int]:
        """What was learned so far, and its revision; 0 where nothing was."""
        ...

    async def keep_history(self, history: History, *, revision: int) -> None:
        """Replace what was learned as of this revision. Raises Conflict where another came first."""
        ...


class Spelling(Protocol):
    """Puts the tokens of one answer together as they come."""

    def add(self, token: int) -> str:
        """What can be read with this token; nothing while a character is not whole."""
        ...


class Tokenizer(Protocol):
    """Cuts texts into the tokens of a model, in several threads at once."""

    size: int
    """How many tokens there are; each is a number below."""

    def tokens(self, text: str, *, special: bool = True) -> Sequence[int]:
        """The tokens of a text, with the model's marks of beginning and end unless they are not wanted."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without marks."""
        ...

    def spelling(self, after: Sequence[int] = ()) -> Spelling:
        """What puts the tokens of one answer together that comes after these."""
        ...


class Continuation(Protocol):
    """One text that a model goes on with, in one thread."""

    def feed(self, tokens: Sequence[int]) -> Tensor:
        """Read these tokens behind those before; the logits of all tokens that could be next. Raises Unavailable."""
        ...

    def stop(self) -> None:
        """End the run that is at work, and all later ones, from any thread."""
        ...


class Decoder(Protocol):
    """A model that goes on with texts, token by token."""

    context_tokens_max: int
    """Of a text, with what it was gone on by."""
    end_tokens: frozenset[int]
    """Each ends an answer."""

    def crew_seconds(self) -> float | None:
        """CPU time of the threads that it has of its own beside the one that calls it; None where it has none, or where that is
        not known."""
        ...

    def begin(self, tokens_max: int) -> Continuation:
        """A text of no tokens yet that will have at most so many."""
        ...


class LanguageModel(Protocol):
    """A model that answers: what goes on with texts, and what makes them of tokens and conversations."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What cuts texts for it."""
        ...

    @property
    def decoder(self) -> Decoder:
        """What goes on with them."""
        ...

    def conversation(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """The tokens of a conversation, up to where the answer begins. Raises Refused for one that cannot be written down."""
        ...


class Announcements(Protocol):
    """How gateways hear of each other. What is told now is heard by who listens now, at most once; nothing is kept."""

    async def tell(self, announced: GatewayAnnounced) -> None:
        """Tell all others, and oneself. Raises Unavailable."""
        ...

    def heard(self, hear: Callable[[GatewayAnnounced], None]) -> AbstractAsyncContextManager[None]:
        """Call this with what is told while the block runs, if it is of somebody who belongs to us."""
        ...


class PeerLink(Protocol):
    """A way to another gateway, kept open as long as it is of use."""

    async def ask(self, errand: Errand) -> InferenceAnswer:
        """Have a request answered there; what it used is counted on its meter, if it has one. Raises what is wrong with the
        request; Busy where there is no room, DeadlineExceeded where its time is over, PeerAway where nobody answers or what
        answers cannot take it, so that another may be asked."""
        ...

    def close(self) -> None:
        """Take nothing more; what is being asked is still answered."""
        ...


class PeerLinks(Protocol):
    """Ways to other gateways."""

    def open(self, address: str, *, tls: bool) -> PeerLink:
        """A way to who listens there; nothing is sent before something is asked."""
        ...
