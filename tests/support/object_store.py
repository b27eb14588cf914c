"""Start an object store for tests: `gcp-storage-emulator` in another process, with the environment for its clients.

python tests/support/object_store.py BUCKET      prints its port, and serves until it is killed
"""

import contextlib
import signal
import subprocess
import sys

BUCKET = "bucket"


@contextlib.contextmanager
def object_store():
    """Start the store, and yield an environment in which `gs://bucket` is an empty bucket of this machine."""
    process = subprocess.Popen(
        [sys.executable, __file__, BUCKET], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield {
            "STORAGE_EMULATOR_HOST": url,  # gcsfs
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "x",  # TensorStore
        }
    finally:
        process.kill()
        process.communicate()


def serve(bucket):
    from gcp_storage_emulator import server

    _tell_generations(server)
    emulator = server.create_server("127.0.0.1", 0, in_memory=True, default_bucket=bucket)
    emulator.start()
    print(emulator._api._httpd.server_port, flush=True)
    signal.pause()


def _tell_generations(server):
    """Let a download name its generation, as the real store does. TensorStore writes on condition of it."""
    from gcp_storage_emulator.handlers import objects

    original = objects.download

    def download(request, response, storage, *args, **kwargs):
        original(request, response, storage, *args, **kwargs)
        if response.status < 400:
            bucket, name = request.params["bucket_name"], request.params["object_id"]
            response["x-goog-generation"] = storage.get_file_obj(bucket, name)["generation"]

    objects.download = download
    for _, handlers in server.HANDLERS:
        for method, handler in handlers.items():
            if handler is original:
                handlers[method] = download


if __name__ == "__main__":
    serve(sys.argv[1])
