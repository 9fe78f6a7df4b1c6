"""HTTP plumbing that knows nothing about rooms: declared endpoints, their routes, the server, the outgoing client."""
