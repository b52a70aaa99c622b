"""The networks that the runtime ships, what each expects, and the checks that they are what they claim to be."""
