FUNCTION_LACKS
local rules = RULES

function envoy_on_response(handle)
  if lacks(handle, rules) then
    handle:headers():replace("x-model-not-loaded", "true")
  end
end
