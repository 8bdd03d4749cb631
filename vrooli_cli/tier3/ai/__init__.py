"""Models: one seam (:mod:`.service`), and behind it OpenAI-compatible endpoints, a script or a recording.

::

    service.py      what is asked and answered, and the seam; AIServiceManager wires the rest
    models.py       a name in a file → endpoint, model id, key and price          prices.py   what a call costs
    live.py         one answer: fallback, permit, reservation, transport, events    governor.py when a call may be sent
    wire.py         Chat Completions, as data: request bodies, streams put together
    openai.py       the transport; the only importer of openai
    scripted.py     answers from a list                                            remembered.py memo, cassette, cache
"""
