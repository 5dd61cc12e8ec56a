"""A llama.cpp server on a free port of 127.0.0.1: `e2e_server.py MODEL.gguf ADDRESS_FILE`.

Writes its address (http://127.0.0.1:PORT) into ADDRESS_FILE once it answers, and serves until it is
killed.
"""

import os
import signal
import sys
import time
import urllib.request

from xllamacpp import CommonParams, Server

model, address_file = sys.argv[1:3]

params = CommonParams()
params.model.path = model
params.hostnames = ["127.0.0.1"]
params.port = 0  # a free one; `listening_address` tells which
params.n_parallel = 4
params.n_ctx = 8192
# One thread, although it looks slower: the threads of llama.cpp wait for each other spinning. On a
# machine with something else to do, two threads took 107 s for the 40 rows and one took 17 s.
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
# At this level there is one `launch_slot_` line for each request that reaches the model: the
# witness that the test counts.
params.verbosity = 3

server = Server(params)  # comes back when the model is loaded
address = server.listening_address

# A proxy from the environment is not for this address.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for _ in range(600):
    try:
        if opener.open(f"{address}/health", timeout=5).status == 200:
            break
    except OSError:  # 503 while it is loading
        pass
    time.sleep(0.1)
else:
    sys.exit(f"{address}/health never said 200")

# Renamed into place, so that whoever waits for the file never reads half of it.
with open(address_file + ".part", "w") as file:
    file.write(address)
os.replace(address_file + ".part", address_file)

signal.pause()
