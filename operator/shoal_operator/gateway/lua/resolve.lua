-- Runs after normalise and extract. Names the model that the gRPC message named, and, when nothing knows that model,
-- turns to the InferenceService's own scope, which tells an unknown model from an unknown InferenceService.
-- Only what a model can be called is written into a header: a message may hold line ends, or megabytes.
local function is_model(name) return IS_MODEL end

function envoy_on_request(handle)
  local headers = handle:headers()
  local fields = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.grpc_field_extraction")
  local said = headers:get("mm-model-id")
  local named = fields and (fields["model_name"] or fields["name"] or {})[1] or ""
  if fields and said and named ~= "" and named ~= said then
    handle:respond({[":status"] = "DISAGREE"}, "")
    return
  end
  if fields and not said then
    said = named
    if is_model(said) then
      headers:replace("x-shoal-scope", "///" .. said)
      headers:replace("mm-model-id", said)
      local host = headers:get(":authority") or ""
      local own = host:gsub("^MODELMESH_HOST%.", said .. ".")
      if own ~= host then headers:replace(":authority", own) end
    end
  end
  -- Each of our routes carries this metadata: without it there is no route.
  if not handle:metadata():get("found") then
    local name = headers:get("x-shoal-scope"):match("^[^/]*/[^/]*/[^/]*/([^/]+)")
    if headers:get(":path"):find("^/inference%.") then name = said end
    if not name or name == "" then
      name = "(no name given)"
    elseif not is_model(name) then
      name = "(not a model's name, which is of IN_WORDS)"
    end
    headers:replace("x-shoal-unknown", name)
    headers:replace("x-shoal-scope", "///!")
  end
end
