"""A web client (Element Web, Cinny) handed out under `/web/`, with its configuration written by the server."""
