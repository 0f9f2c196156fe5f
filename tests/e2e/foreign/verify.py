import json
import sys

from standardwebhooks import Webhook

delivery = json.load(sys.stdin)
Webhook(delivery["secret"]).verify(delivery["body"], delivery["headers"])
