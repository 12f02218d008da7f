"""TensorFlow's own library by its C interface: graphs are built and run without TensorFlow's Python, or Keras.

Importing TensorFlow and Keras takes seconds, loading the library that both stand on takes one. The C interface is
the part that TensorFlow keeps stable (tensorflow/c/c_api.h). Where it is missing, `load_library` says so and the
caller takes Keras.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_size_t, c_ubyte, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FILES = {
    "linux": ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"),
    "darwin": ("libtensorflow_framework.2.dylib", "libtensorflow_cc.2.dylib"),
}
# where one of these is, a GPU may be used, and TensorFlow's Python knows better how
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_FLOAT, _INT32 = 1, 3
_CODES: dict[Any, int] = {np.dtype(np.float32): _FLOAT, np.dtype(np.int32): _INT32}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}
# ConfigProto{graph_options{optimizer_options{opt_level: L0} rewrite_options{disable_meta_optimizer: true}}}:
# the graphs here are written as they are to run, and rewriting them would take longer than running them
_AS_WRITTEN = bytes([0x52, 18, 0x1A, 11, 0x18, *[0xFF] * 9, 0x01, 0x52, 3, 0x98, 0x01, 0x01])


class LibraryUnavailable(Exception):
    """TensorFlow's library cannot be used by its C interface on this machine; says why."""


class _Output(ctypes.Structure):
    """TF_Output: one output of an operation."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


_OUTPUTS, _LENGTHS = POINTER(_Output), POINTER(c_int64)
# name: (result, *arguments), as in tensorflow/c/c_api.h
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "TF_Version": (c_char_p,),
    "TF_NewStatus": (c_void_p,),
    "TF_DeleteStatus": (None, c_void_p),
    "TF_GetCode": (c_int, c_void_p),
    "TF_Message": (c_char_p, c_void_p),
    "TF_NewGraph": (c_void_p,),
    "TF_DeleteGraph": (None, c_void_p),
    "TF_NewSessionOptions": (c_void_p,),
    "TF_DeleteSessionOptions": (None, c_void_p),
    "TF_SetConfig": (None, c_void_p, c_char_p, c_size_t, c_void_p),
    "TF_NewSession": (c_void_p, c_void_p, c_void_p, c_void_p),
    "TF_DeleteSession": (None, c_void_p, c_void_p),
    "TF_AllocateTensor": (c_void_p, c_int, _LENGTHS, c_int, c_size_t),
    "TF_DeleteTensor": (None, c_void_p),
    "TF_TensorType": (c_int, c_void_p),
    "TF_NumDims": (c_int, c_void_p),
    "TF_Dim": (c_int64, c_void_p, c_int),
    "TF_TensorData": (c_void_p, c_void_p),
    "TF_GraphGetTensorNumDims": (c_int, c_void_p, _Output, c_void_p),
    "TF_GraphGetTensorShape": (None, c_void_p, _Output, _LENGTHS, c_int, c_void_p),
    "TF_NewOperation": (c_void_p, c_void_p, c_char_p, c_char_p),
    "TF_AddInput": (None, c_void_p, _Output),
    "TF_AddInputList": (None, c_void_p, _OUTPUTS, c_int),
    "TF_FinishOperation": (c_void_p, c_void_p, c_void_p),
    "TF_SetAttrType": (None, c_void_p, c_char_p, c_int),
    "TF_SetAttrTypeList": (None, c_void_p, c_char_p, POINTER(c_int), c_int),
    "TF_SetAttrBool": (None, c_void_p, c_char_p, c_ubyte),
    "TF_SetAttrFloat": (None, c_void_p, c_char_p, c_float),
    "TF_SetAttrInt": (None, c_void_p, c_char_p, c_int64),
    "TF_SetAttrIntList": (None, c_void_p, c_char_p, _LENGTHS, c_int),
    "TF_SetAttrString": (None, c_void_p, c_char_p, c_char_p, c_size_t),
    "TF_SetAttrStringList": (None, c_void_p, c_char_p, POINTER(c_char_p), POINTER(c_size_t), c_int),
    "TF_SetAttrShape": (None, c_void_p, c_char_p, _LENGTHS, c_int),
    "TF_SetAttrTensor": (None, c_void_p, c_char_p, c_void_p, c_void_p),
    "TF_SessionRun": (
        *(None, c_void_p, c_void_p, _OUTPUTS, POINTER(c_void_p), c_int),
        *(_OUTPUTS, POINTER(c_void_p), c_int, c_void_p, c_int, c_void_p, c_void_p),
    ),
}
_loading = threading.Lock()
_LAST_CALLS = (
    20.0  # s that the end of the program waits for calls under way; a large batch's last takes a few
)


class _Calls:
    """Counts the threads that are in the library. At the program's end no further one goes in, and those within are
    waited for: a process that tears the library down under a running thread crashes or never ends."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._ended = False
        atexit.register(self.end)

    def __enter__(self) -> None:
        with self._changed:
            if self._ended:
                raise RuntimeError("The program is ending; TensorFlow's library is not called any more.")
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Let nobody in any more, and wait for those within."""
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: not self._running, _LAST_CALLS)


_calls = _Calls()


def load_library() -> ctypes.CDLL:
    """TensorFlow's library, loaded once; takes a second the first time, during which other threads go on.

    Raises LibraryUnavailable where it isn't there, lacks a function, or where there is a GPU.
    """
    with _calls, _loading:  # a second thread waits for the first
        return open_library()


def start_library() -> None:
    """Load it and let it look for devices, of which it prints something. Raises LibraryUnavailable."""
    graph = Graph()
    graph.run({}, [graph.constant(np.zeros(1, np.float32))])


@contextmanager
def silence_library() -> Iterator[None]:
    """What libraries print on standard error is dropped; what Python prints there is not.

    TensorFlow's lines come from C++ straight to file descriptor 2, whatever its log level, so that is where they are
    caught.
    """
    sys.stderr.flush()
    original, nowhere, stream = os.dup(2), os.open(os.devnull, os.O_WRONLY), sys.stderr
    try:
        is_standard = stream.fileno() == 2
    except (AttributeError, OSError):
        is_standard = False
    if is_standard:  # other threads may have something to say meanwhile
        sys.stderr = open(original, "w", encoding=stream.encoding, buffering=1, closefd=False)  # noqa: SIM115
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(original, 2)
        if is_standard:
            sys.stderr.flush()
            sys.stderr = stream
        os.close(original)
        os.close(nowhere)


def find_library() -> list[Path]:
    """The library's files, in the order in which they are loaded. Raises LibraryUnavailable as `load_library` does."""
    if any(Path(device).exists() for device in _GPU_DEVICES):
        raise LibraryUnavailable("there is a GPU")
    files = _FILES.get(sys.platform)
    package = importlib.util.find_spec("tensorflow")
    if files is None or package is None or not package.submodule_search_locations:
        raise LibraryUnavailable(f"not on {sys.platform}, or TensorFlow is not installed")
    folder = Path(next(iter(package.submodule_search_locations)))
    return [folder / file for file in files]


@cache
def open_library() -> ctypes.CDLL:
    """Open it and declare the functions that are called, once; see `load_library`, which threads share."""
    paths = find_library()
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "3"
    )  # it reports as an error that there is no GPU otherwise
    try:
        for path in paths:
            _open_without_lock(path)
        library = ctypes.CDLL(str(paths[-1]))
        for name, (result, *arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise LibraryUnavailable(f"{type(error).__name__}: {error}") from error
    return library


def _open_without_lock(path: Path) -> None:
    """Load a library while other threads of Python go on, which `ctypes.CDLL` does not let them."""
    functions = ctypes.CDLL(None)
    functions.dlopen.restype, functions.dlopen.argtypes = c_void_p, (c_char_p, c_int)
    functions.dlopen(os.fsencode(path), os.RTLD_NOW | os.RTLD_LOCAL)


class Tensor:
    """The output of an operation of a graph."""

    def __init__(self, operation: int, index: int = 0) -> None:
        self.output = _Output(operation, index)


class Graph:
    """Operations, and the session that runs them. Build in one thread; `run` is safe to call from any."""

    def __init__(self) -> None:
        """An empty graph. Raises LibraryUnavailable."""
        self._library = library = load_library()
        self._graph = library.TF_NewGraph()
        self._session: int | None = None
        self._count = 0
        self._opening = threading.Lock()
        self._handles: list[int] = []
        released = weakref.finalize(self, _delete, library, self._graph, self._handles)
        released.atexit = False  # the process' end frees it; another thread may still be running it

    def placeholder(self, shape: Sequence[int | None]) -> Tensor:
        """A float32 input; None for a length that is known when it runs."""
        lengths = [-1 if length is None else length for length in shape]
        return self.add("Placeholder", dtype=np.dtype(np.float32), shape=tuple(lengths))

    def constant(self, values: NDArray[Any]) -> Tensor:
        """A constant, float32 or int32."""
        return self.add("Const", dtype=values.dtype, value=values)

    def add(self, kind: str, *inputs: Tensor | Sequence[Tensor], **attributes: Any) -> Tensor:
        """An operation's first output.

        inputs: in the operation's order, a list of tensors for a list. attributes: bool, float, int, str, dtype,
        array, `shape` a tuple, and lists of int, str or dtype. Raises ValueError for what TensorFlow
        does not take.
        """
        library = self._library
        self._count += 1
        name = f"{kind.lstrip('_')}_{self._count}"  # a name may not begin as a private kind does
        description = library.TF_NewOperation(self._graph, kind.encode(), name.encode())
        for given in inputs:
            if isinstance(given, Tensor):
                library.TF_AddInput(description, given.output)
            else:
                library.TF_AddInputList(description, _list_outputs(given), len(given))
        with _Status(library) as status:
            for attribute, value in attributes.items():
                self._set(description, attribute.encode(), value, status)
            return Tensor(library.TF_FinishOperation(description, status))

    def shape(self, tensor: Tensor) -> tuple[int | None, ...]:
        """A tensor's lengths as far as they are known before it runs; one whose number is known."""
        with _Status(self._library) as status:
            count = self._library.TF_GraphGetTensorNumDims(self._graph, tensor.output, status)
        lengths = (c_int64 * count)()
        with _Status(self._library) as status:
            self._library.TF_GraphGetTensorShape(self._graph, tensor.output, lengths, count, status)
        return tuple(None if length < 0 else length for length in lengths)

    def run(
        self, feeds: Mapping[Tensor, NDArray[np.float32]], fetches: Sequence[Tensor]
    ) -> list[NDArray[Any]]:
        """Values of the fetches; only what they depend on is computed. Raises ValueError for a wrong shape."""
        with _calls:
            return self._run(feeds, fetches)

    def _run(
        self, feeds: Mapping[Tensor, NDArray[np.float32]], fetches: Sequence[Tensor]
    ) -> list[NDArray[Any]]:
        library, session = self._library, self._open()
        given = [_to_tensor(library, np.asarray(value, order="C")) for value in feeds.values()]
        results = (c_void_p * len(fetches))()
        try:
            with _Status(library) as status:
                library.TF_SessionRun(
                    *(session, None, _list_outputs(list(feeds)), (c_void_p * len(given))(*given), len(given)),
                    *(_list_outputs(fetches), results, len(fetches), None, 0, None, status),
                )
        finally:
            for handle in given:
                library.TF_DeleteTensor(handle)
        return [_to_array(library, handle) for handle in results if handle is not None]

    def _open(self) -> int:
        with self._opening:
            if self._session is None:
                library = self._library
                options = library.TF_NewSessionOptions()
                try:
                    with _Status(library) as status:
                        library.TF_SetConfig(options, _AS_WRITTEN, len(_AS_WRITTEN), status)
                    with _Status(library) as status:
                        self._session = library.TF_NewSession(self._graph, options, status)
                finally:
                    library.TF_DeleteSessionOptions(options)
                assert self._session is not None
                self._handles.append(self._session)
            return self._session

    def _set(self, description: int, name: bytes, value: Any, status: int) -> None:
        library = self._library
        match value:
            case bool():
                library.TF_SetAttrBool(description, name, value)
            case int():
                library.TF_SetAttrInt(description, name, value)
            case float():
                library.TF_SetAttrFloat(description, name, value)
            case str():
                library.TF_SetAttrString(description, name, value.encode(), len(value))
            case np.dtype():
                library.TF_SetAttrType(description, name, _CODES[value])
            case tuple():
                library.TF_SetAttrShape(description, name, (c_int64 * len(value))(*value), len(value))
            case np.ndarray():
                handle = _to_tensor(library, np.asarray(value, order="C"))
                library.TF_SetAttrTensor(description, name, handle, status)
                library.TF_DeleteTensor(handle)
            case [str(), *_]:
                texts = [text.encode() for text in value]
                lengths = (c_size_t * len(texts))(*map(len, texts))
                library.TF_SetAttrStringList(
                    description, name, (c_char_p * len(texts))(*texts), lengths, len(texts)
                )
            case [np.dtype(), *_]:
                codes = [_CODES[dtype] for dtype in value]
                library.TF_SetAttrTypeList(description, name, (c_int * len(codes))(*codes), len(codes))
            case _:
                library.TF_SetAttrIntList(description, name, (c_int64 * len(value))(*value), len(value))


class _Status:
    """TF_Status as a context; a failure becomes a ValueError at its end."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._status = library.TF_NewStatus()

    def __enter__(self) -> int:
        return int(self._status)

    def __exit__(self, kind: object, *_: object) -> None:
        code, message = (
            self._library.TF_GetCode(self._status),
            self._library.TF_Message(self._status).decode(),
        )
        self._library.TF_DeleteStatus(self._status)
        if code and kind is None:
            raise ValueError(f"TensorFlow refused: {message}")


def _delete(library: ctypes.CDLL, graph: int, sessions: list[int]) -> None:
    for session in sessions:
        status = library.TF_NewStatus()
        library.TF_DeleteSession(session, status)
        library.TF_DeleteStatus(status)
    library.TF_DeleteGraph(graph)


def _list_outputs(tensors: Sequence[Tensor]) -> Any:
    return (_Output * len(tensors))(*[tensor.output for tensor in tensors])


def _to_tensor(library: ctypes.CDLL, values: NDArray[Any]) -> int:
    lengths = (c_int64 * values.ndim)(*values.shape)
    handle = int(library.TF_AllocateTensor(_CODES[values.dtype], lengths, values.ndim, values.nbytes))
    ctypes.memmove(library.TF_TensorData(handle), values.ctypes.data, values.nbytes)
    return handle


def _to_array(library: ctypes.CDLL, handle: int) -> NDArray[Any]:
    shape = [library.TF_Dim(handle, axis) for axis in range(library.TF_NumDims(handle))]
    values = np.empty(shape, _DTYPES[library.TF_TensorType(handle)])
    ctypes.memmove(values.ctypes.data, library.TF_TensorData(handle), values.nbytes)
    library.TF_DeleteTensor(handle)
    return values
