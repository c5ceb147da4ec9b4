"""What crosses a boundary: CRD types, the agents' sync messages, storage URIs, and the names all parts share."""
