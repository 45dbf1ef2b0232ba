"""Networks whose output at a token depends on the tokens before it, each with a sampler that keeps what it computed."""
