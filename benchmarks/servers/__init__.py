"""The homeservers that can be measured: each can be started, has an address, and says which processes it is."""
