"""What vision does for the owner at the cable, by subject: people, enrolment, model updates, reset."""
