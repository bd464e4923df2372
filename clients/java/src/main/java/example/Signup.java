package example;

import java.util.List;
import vault.ApiClient;
import vault.ApiException;
import vault.api.ValuesApi;
import vault.model.*;

/** Keeps a signup form's fields as tokens in one region and shows them, masked, in another. */
public final class Signup {
  public static void main(String[] args) throws ApiException {
    var one = System.getenv("VAULT_ADDR");
    var other = System.getenv().getOrDefault("VAULT_ADDR2", one);

    var form = List.of(
        new TokenizeItem().type("email").value("ann@example.com"),
        new TokenizeItem().type("phone").value("01 234 5678").country("IE"),
        new TokenizeItem().type("name").value("Ann Example"));
    var kept = vault(one).tokenize(new TokenizeRequest().items(form), null);
    var items = kept.getItems().stream()
        .map(item -> new DetokenizeItem().token(item.getToken()).reveal(Reveal.MASKED)).toList();
    var shown = vault(other).detokenize(new DetokenizeRequest().items(items).purpose("signup"));
    shown.getItems().forEach(item -> System.out.println(item.getType() + ": " + item.getValue()));
  }

  private static ValuesApi vault(String address) {
    var client = new ApiClient();
    client.updateBaseUri(address);
    client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + System.getenv("VAULT_KEY")));
    return new ValuesApi(client);
  }
}
