"""The handler `agent`: a model answers, within limits that hold.

    context      what the model is shown: a window of the conversation that fits (pure)
    tokens       how many tokens a text has, about (pure); vocabulary: exactly, where tiktoken's files are at hand
    variants     which variant of an agent a contact has (pure)
    formatting   Markdown becomes WhatsApp's marks, and long replies several messages (pure)
    provider     whoever completes a chat: a protocol of one method
    compatible   … any endpoint that speaks OpenAI's language
    agent        one reply: context, calls, retries, the second look
    handler      a turn: budget, memory, fallback, accounts
    store        agent_contexts, agent_sessions and agent_usage

Nothing here imports the package openai before an agent is configured.
"""
