"""What may leave the device: the event schema, the outbox, the publisher. Imports neither pixels nor identities."""
