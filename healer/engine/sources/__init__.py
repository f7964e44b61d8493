"""Where alerts come from besides the webhook: polls, PromQL triggers and watched conditions.

Each source makes `Alert`s and hands them to the journal, so that everything goes the one way. A
webhook is a hint; these say what is true now.
"""
