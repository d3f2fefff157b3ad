"""The part that talks: transport and update. Needs the extra ``agent`` (aiohttp), which is imported only when used."""
