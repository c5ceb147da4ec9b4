-- Runs when no scope matched, or when a scope's routes did not: writes host, path and model in the one form that the
-- scopes are keyed by. Path-style requests, capitals in the host, <service>-predictor hosts, v1 verbs, queries, slashes
-- at the end, ModelMesh's headers in their binary form.
-- What no model can be called becomes "?", which no scope is keyed by: it is neither repeated nor sent on.
local function is_model(name) return IS_MODEL end
local function is_service(name) return IS_SERVICE end
local function is_namespace(name) return IS_NAMESPACE end

local function model_of(path)
  return path:match("^/v2/models/([^/?]+)") or path:match("^/v1/models/([^/:?]+)")OR_NATIVE
end

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local LONGEST = 400  -- no model's name is longer

local function from_base64(text)
  local bytes, value, bits = {}, 0, 0
  for digit in text:sub(1, LONGEST):gmatch("[%w+/]") do
    value, bits = value * 64 + DIGITS:find(digit, 1, true) - 1, bits + 6
    if bits >= 8 then
      bits = bits - 8
      local byte = math.floor(value / 2 ^ bits)
      bytes[#bytes + 1] = string.char(byte)
      value = value - byte * 2 ^ bits
    end
  end
  return table.concat(bytes)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if (headers:get("upgrade") or ""):lower() == "websocket" then
    handle:respond({[":status"] = "403"}, "")  -- as Envoy itself answers one whose route it knows at once
    return
  end
  local path, authority = headers:get(":path"), headers:get(":authority") or ""
  local host = authority:lower()
  local tidy = path:gsub("^([^?]*[^/?])/+$", "%1"):gsub("^([^?]*[^/?])/+%?", "%1?")
  if tidy ~= path and not path:find("^/inference%.") then  -- the names of gRPC's calls are what they are
    path = tidy
    headers:replace(":path", path)
  end
  local model = model_of(path)
  if not model then
    -- /<namespace>/<service>/v2/...
    local namespace, service, rest = path:match("^/([^/]+)/([^/]+)(/.*)$")
    if namespace and is_namespace(namespace) and is_service(service)
      and (rest:find("^/v[12]$") or rest:find("^/v[12][/?]") or model_of(rest)) then
      host = service .. "." .. namespace
      path = rest
      headers:replace(":path", path)
      headers:replace("x-shoal-path-style", "true")
      model = model_of(path)
    end
  end
  host = host:gsub("^([^.]+)%-predictor%.", "%1.")
  local calls_model = path:find("^/inference%.GRPCInferenceService/Model")
  local binary = headers:get("mm-model-id-bin") or headers:get("mm-vmodel-id-bin")
  if calls_model and binary and not headers:get("mm-model-id") then
    model = from_base64(binary)
    headers:replace("mm-model-id", is_model(model) and model or "?")
  end
  local named = model or calls_model and headers:get("mm-model-id") or ""
  if is_model(named) then
    host = host:gsub("^MODELMESH_HOST%.", named .. ".")  -- any model of the namespace's groups: each has its own host
  end
  if host ~= authority then headers:replace(":authority", host) end
  if model then
    headers:replace("x-shoal-scope", "///" .. (is_model(model) and model or "?"))
  elseif not calls_model then
    headers:replace("x-shoal-scope", "///!")
  end
end
