"""The words of a call: verbs, their options, values and help; what is wrong with them ends with 64."""
