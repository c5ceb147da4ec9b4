"""The further nodes of `make cluster NODES=n`: real ones, each in network, mount and process namespaces of its own."""
