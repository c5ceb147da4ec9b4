"""The agent beside a model server: pulls artifacts, has the server load them, and tells the operator what is so."""
