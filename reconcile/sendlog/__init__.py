"""The send log: what the SMS API answered at sending, which some companies keep."""
