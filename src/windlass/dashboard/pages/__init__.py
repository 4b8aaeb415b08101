"""The pages: an endpoint each, a plain function of a call that returns a response."""
