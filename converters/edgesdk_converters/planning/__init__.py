"""From what was asked to the steps that make it. Pure: nothing is read, run or imported that is heavy."""
