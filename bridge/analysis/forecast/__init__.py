"""The forecast: how likely it is that an event begins within a horizon, and whether anybody may be told so.

Two forecast: the `reference`, an adaptive rate by the hour of the week, and models that move its log odds by what is
known at the origin (`features`, `logistic`, `mixing`). `trust` keeps the evidence that the models do better. Until
that is earned, and again after drift, the reference's probability is what is given, marked as "no skill here".
`forecaster` is the straight path through all of them, `reasons` puts what moved the odds into words, `occurrences`
holds the events. `outlooks` makes of all that what is told: one forecast per target at a fixed tick.

Rules: pure, like all of the thinking: no clock, no randomness. What is said at an origin looks at nothing after it; an
outcome teaches once its horizon has passed. All that was learned can be stored and comes back equal.

Nothing is imported here: the front reads what is `targets` and `trust`, and has no use for numpy.

Decision: a target of its own for "any", each entity and each severity, rather than one model with the target as a
feature. Most targets have nothing to forecast, and each must be able to be silent by itself.
"""
