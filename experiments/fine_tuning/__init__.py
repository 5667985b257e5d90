"""Does one recipe work on tasks of all kinds?"""
