"""Live speech: sources → stream (ring buffer, voice activity, windows) → both encoders → answers.

`stream` and `vad` are numpy and know no transport; `predict` and `engine` hold the encoders; `hub`,
`worker` and `route` carry samples between a browser, the server and one process with the encoders.
"""
