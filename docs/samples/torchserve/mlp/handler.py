"""Takes {"x": [..]} by /predictions/{model}, and rows of v1 or inputs of v2 likewise: a row is a request, or one of its
instances or inputs. Answers a number for each row, so that batches are computed at once.
"""

import json

import torch
from ts.torch_handler.base_handler import BaseHandler


class MlpHandler(BaseHandler):
    def preprocess(self, rows):
        return torch.tensor([self._numbers(row) for row in rows], device=self.device)

    def postprocess(self, output):
        return output[:, 0].tolist()

    def _numbers(self, row):
        # A list is an instance of v1, which may have whole numbers only.
        said = row if isinstance(row, list) else row.get("data") or row.get("body") or row
        if isinstance(said, (bytes, bytearray)):
            said = json.loads(said)
        return [float(each) for each in (said["x"] if isinstance(said, dict) else said)]
