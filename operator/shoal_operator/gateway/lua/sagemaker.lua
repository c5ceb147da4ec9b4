-- SageMaker's runtime API for its own clients (see gateway/sagemaker.py): a request for an endpoint becomes one for a
-- model, and what is wrong is said as that API says it. Runs for paths below /endpoints/ only, before all other filters.
-- A name that is none is neither repeated nor sent on.
local function is_model(name) return IS_MODEL end
local function is_service(name) return IS_SERVICE end
local function is_namespace(name) return IS_NAMESPACE end
local meanings = MEANINGS
local TRITON_BINARY = "application/vnd.sagemaker-triton.binary+json;json-header-size="

local function refuse(handle, message)
  handle:streamInfo():dynamicMetadata():set("SAGEMAKER", "REFUSED", true)
  handle:respond(
    {[":status"] = "400", ["content-type"] = "application/json", ["ERROR_TYPE"] = "ValidationError"},
    '{"Code": "ValidationError", "Message": "' .. message .. '"}')
end

-- iris, iris.tar.gz, team/Iris_v1.2.tar.gz -> iris, iris, team--iris-v1-2
local function model_of(artifact)
  local name = artifact:gsub("%.tar%.gz$", ""):lower():gsub("/", "--"):gsub("[._]", "-")
  return name
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  local _, asked = path:match("^/endpoints/([^/?]+)/([^/?]+)")
  if asked and not asked:find("invocations", 1, true) then return end -- path style of a namespace of that name
  local endpoint, operation = path:match("^/endpoints/([^/?]+)/([^/?]+)/?$")
  if operation ~= "invocations" or headers:get(":method") ~= "POST" then
    refuse(handle, "of SageMaker's runtime API only InvokeEndpoint is offered (POST /endpoints/<EndpointName>/invocations), "
      .. "neither the asynchronous call nor the one whose response is a stream")
    return
  end
  -- Whose: the host's InferenceService, or <namespace>--<name>, which is path style where the host names another.
  endpoint = endpoint:lower()
  local host = (headers:get(":authority") or ""):lower():gsub("^([^.]+)%-predictor%.", "%1.")
  local at, home = host:match("^([^.]+)%.([^.]+)")
  local namespace, service = home, endpoint
  if endpoint ~= at then
    namespace, service = endpoint:match("^(.-)%-%-(.+)$")
    if not service or not is_namespace(namespace) or not is_service(service) then
      refuse(handle, "EndpointName names no InferenceService: write <namespace>--<name>, or <name> alone where the host "
        .. "of endpoint_url is <name>.<namespace>[.<domain>]")
      return
    end
    if service ~= at or namespace ~= home then headers:replace("x-shoal-path-style", "true") end
  end
  -- Which of its models.
  local target = headers:get("x-amzn-sagemaker-target-model")
  local component = headers:get("x-amzn-sagemaker-inference-component")
  if target and component then
    refuse(handle, "TargetModel and InferenceComponentName both name a model: give one")
    return
  elseif headers:get("x-amzn-sagemaker-target-container-hostname") then
    refuse(handle, "TargetContainerHostname is not offered: the pods of an InferenceService have one model server; name a "
      .. "model by TargetModel")
    return
  end
  target = target or component
  local model = target and model_of(target) or service
  if not is_model(model) then
    refuse(handle, "TargetModel (or InferenceComponentName) comes to no model's name, which is of IN_WORDS: of the name "
      .. "as written, .tar.gz at its end is left out, capitals become small letters, / becomes --, and . and _ become -")
    return
  end
  handle:streamInfo():dynamicMetadata():set("SAGEMAKER", "KEY_INVOKED", true)
  if not target then handle:streamInfo():dynamicMetadata():set("SAGEMAKER", "KEY_OWN", true) end
  headers:replace(":authority", service .. "." .. namespace)
  headers:replace(":path", "/models/" .. model .. "/invoke")
  -- A signature is not checked here, and no model's business.
  if (headers:get("authorization") or ""):find("^AWS4%-") then headers:remove("authorization") end
  headers:remove("x-amz-date")
  headers:remove("x-amz-security-token")
  headers:remove("x-amz-content-sha256")
  -- Binary tensors, as Triton's own door for SageMaker has them, are v2's.
  local json = (headers:get("content-type") or ""):match("^application/vnd%.sagemaker%-triton%.binary%+json;%s*json%-header%-size=(%d+)$")
  if json then
    headers:replace("inference-header-content-length", json)
    headers:replace("content-type", "application/octet-stream")
  end
end

-- What is no UTF-8 becomes "?": clients decode all of an answer before they look at it.
local function as_utf8(text)
  return (text:gsub("[\128-\255][\128-\191]*", function(character)
    local first, second = character:byte(1, 2)
    local length = first < 194 and 0 or first < 224 and 2 or first < 240 and 3 or first < 245 and 4 or 0
    if #character ~= length or first == 224 and second < 160 or first == 237 and second > 159
      or first == 240 and second < 144 or first == 244 and second > 143 then
      return "?"
    end
  end))
end

local function as_json(text)
  return '"' .. text:gsub('[%z\1-\31"\\]', function(character) return ("\\u%04x"):format(character:byte()) end) .. '"'
end

-- As that API has it where the model is the cause; both texts are JSON. boto3 sends none of these again.
local function of_model(status, message, original)
  local kind = status < 500 and "CLIENT_ERROR_FROM_MODEL" or "INTERNAL_FAILURE_FROM_MODEL"
  return "ModelError", 424, '{"Code": "ModelError", "ErrorCode": "' .. kind .. '", "LogStreamArn": "", "Message": '
    .. message .. ', "OriginalMessage": ' .. original .. ', "OriginalStatusCode": ' .. status .. "}"
end

local function said_by_model(status, text)
  local original = as_utf8(text:sub(1, MAX_MESSAGE_BYTES))
  local side = status < 500 and "client" or "server"
  local whole = ('Received %s error (%d) from primary with message "%s"'):format(side, status, original)
  return of_model(status, as_json(whole), as_json(original))
end

local function said_as(status, text)
  -- What the gateway says by itself has this form. A model that writes so speaks for its own InferenceService alone.
  local message, reason = text:match('^{"error":%s*(".*"),%s*"reason":%s*"(%a+)"}%s*$')
  local meant = reason and meanings[reason]
  if not meant then return said_by_model(status, text) end
  message = as_utf8(message)
  if meant.name == "ModelError" then
    return of_model(status, message, message)
  end
  return meant.name, meant.status, '{"Code": "' .. meant.name .. '", "Message": ' .. message .. "}"
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local own = handle:streamInfo():dynamicMetadata():get("SAGEMAKER")
  if not own or own["REFUSED"] then return end  -- none: it was no request, so that nothing knows its path
  local status = tonumber(headers:get(":status"))
  if status < 400 then
    headers:replace("x-amzn-invoked-production-variant", "VARIANT")
    local json = headers:get("inference-header-content-length")
    if json then headers:replace("content-type", TRITON_BINARY .. json) end
    return
  end
  local length = tonumber(headers:get("content-length") or "")
  local packed = headers:get("content-encoding")
  local readable = length and length <= MAX_BODY_BYTES and not packed
  local text = ""
  if readable and length > 0 then
    local body = handle:body()
    text = body:getBytes(0, body:length())
  end
  local name, code, said = said_as(status, text)
  headers = handle:headers()  -- the former object is out of scope once the body was waited for
  headers:replace(":status", tostring(code))
  headers:replace("ERROR_TYPE", name)
  headers:replace("content-type", "application/json")
  headers:remove("content-encoding")
  if readable then
    headers:replace("content-length", handle:body(true):setBytes(said))
    return
  end
  -- Long, or of a length that is not known: not waited for, and replaced as it comes, by how it begins.
  headers:remove("content-length")
  for chunk in handle:bodyChunks() do
    local length = math.min(chunk:length(), MAX_MESSAGE_BYTES)
    if said ~= "" and length > 0 and not packed then
      said = select(3, said_by_model(status, chunk:getBytes(0, length)))
    end
    chunk:setBytes(said)
    said = ""
  end
end
