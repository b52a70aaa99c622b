"""The owner's requests that vision handles, a file a subject: people, enrolment, model updates, reset."""
