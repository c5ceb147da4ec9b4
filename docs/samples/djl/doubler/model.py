import numpy
from djl_python import Output


def handle(inputs):
    if inputs.is_empty():  # the server's first call: load what the model needs
        return None
    answer = Output()
    for number, each in enumerate(inputs.get_batches()):
        rows = numpy.array(each.get_as_json()["rows"])
        answer.add_as_json({"rows": (2 * rows).tolist()}, batch_index=number)
    return answer
