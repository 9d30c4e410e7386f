// SPDX-License-Identifier: Apache-2.0
#include "reply_json.h"
#include "request_json.h"
#include "routes.h"
#include "server_errors.h"

namespace kernelhub::server {
namespace {
constexpr const char* kLfsType = "application/vnd.git-lfs+json";
}

HttpResponse lfs_batch(HubContext& hub, const RepoExchange& exchange) {
  require_writable(hub, exchange.exchange, exchange.repo);
  std::vector<LfsAnswer> answers;
  for (const LfsObject& object : parse_lfs_batch(read_body(exchange.exchange.request))) {
    LfsAnswer answer{object.sha256, object.size_bytes, {}, {}};
    const auto stored = hub.objects.find(object.sha256);
    if (stored && stored->size_bytes != object.size_bytes) {
      throw server_errors::object_mismatch(object.sha256, object.size_bytes, stored->sha256,
                                           stored->size_bytes);
    }
    if (!stored) {
      const std::string slot = hub.slots.open(object.sha256, object.size_bytes);
      answer.upload_url = hub.url + "/api/lfs/upload/" + slot;
      answer.verify_url = hub.url + "/api/lfs/verify";
    }
    answers.push_back(std::move(answer));
  }
  HttpResponse response = json_response(lfs_batch_body(answers));
  response.content_type = kLfsType;
  return response;
}

HttpResponse lfs_put(HubContext& hub, const Exchange& exchange) {
  const UploadSlots::Slot slot = hub.slots.find(exchange.target.segments[3]);
  ObjectStore::Writer writer = hub.objects.writer();
  exchange.request.stream_body([&](std::string_view bytes) {
    if (writer.size_bytes() + bytes.size() > slot.size_bytes) {
      throw server_errors::body_too_large(slot.size_bytes);
    }
    writer.write(bytes);
  });
  writer.finish(slot.sha256, slot.size_bytes);
  return json_response("{}");
}

HttpResponse lfs_verify(HubContext& hub, const Exchange& exchange) {
  if (exchange.caller.is_anonymous()) throw server_errors::token_required("verifying an object");
  const LfsObject wanted = parse_lfs_verify(read_body(exchange.request));
  const auto stored = hub.objects.find(wanted.sha256);
  if (!stored) throw server_errors::object_missing("this request", wanted.sha256);
  if (stored->size_bytes != wanted.size_bytes) {
    throw server_errors::object_mismatch(wanted.sha256, wanted.size_bytes, stored->sha256,
                                         stored->size_bytes);
  }
  return json_response("{}");
}

}  // namespace kernelhub::server
