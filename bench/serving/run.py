"""Model servers beside each other, and the gateway against onnxruntime in process and a bare echo. `make bench-serving`.

Peers are MLServer, KServe, pytriton, LitServe and BentoML, each in an environment of its own outside the repository; one that
does not install, start or answer rightly is told and left out. pytriton here is Triton with its Python backend, not Triton's
native ONNX backend. All serve the same two models on one thread, asked by the same client from 32 connections with single rows:
wrk for HTTP and h2load for gRPC (Debian's wrk and nghttp2-client), or a client of ours where they are missing. Medians of
alternated rounds are told; a server that is not measured stands still meanwhile. It all takes some 20 minutes. The gateway runs
with everything on: keys, metrics, signed models, a real NATS.

`ARGS="only=ours"` leaves out the peers, `only=ours,kserve` all but one; `parts=peak,half,same,twice,start,lone` chooses
questions; `quick` asks fewer times; `client=ours` takes our own client even beside wrk and h2load. Progress is on stderr, results
on stdout.
"""

import sys

if __name__ == "__main__":
    # Here, and no earlier: the client's processes read this file too, and must not load servers and scikit-learn with it.
    from comparison import main

    main(sys.argv[1:])
