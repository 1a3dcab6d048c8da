"""Where Concierge is, and this caller's key for it."""
import json
import os
from pathlib import Path

AUTH_GRPC_URL = os.environ["AUTH_GRPC_URL"]
AUTH_REST_URL = os.environ["AUTH_REST_URL"]
# The file of `concierge keys add-caller`; the newest key comes first.
AUTH_SERVICE_KEY = json.loads(Path(os.environ["AUTH_SERVICE_KEYS"]).read_text())["keys"][0]
